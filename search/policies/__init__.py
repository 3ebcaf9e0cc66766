"""What decides: samplers draw configs, pruners and stopping rules end trials. Pure functions of what has happened."""
