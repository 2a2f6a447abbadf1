"""Tables, figures and the page of a run, from its records: no model, no data set, no store."""
