"""Figures of a study, of Plotly: those of the report, the comparison and the notebook."""
