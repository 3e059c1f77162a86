"""Studies: tables of training runs with several seeds, run, resumed and written as a page."""
