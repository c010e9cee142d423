"""What a run is made from: settings, presets, and where scheduled values come from."""
