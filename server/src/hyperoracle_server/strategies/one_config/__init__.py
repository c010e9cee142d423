"""One configuration for each job, chosen by what whole jobs achieved."""
