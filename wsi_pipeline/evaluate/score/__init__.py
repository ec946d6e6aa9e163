"""Predictions to numbers with intervals: scores, draws of patients, comparisons, asymmetry of errors."""
