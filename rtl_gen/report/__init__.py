"""The report: one HTML page with plots of everything that was measured, from the JSON files that the commands wrote."""
