"""Decisions: samplers draw configs, pruners and stopping rules end trials. All are pure functions of the study so far."""
