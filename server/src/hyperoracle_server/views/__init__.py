"""What people read: descriptions, explanations, gain; nothing here changes anything."""
