"""A finished network in use: loading it from its workdir, predicting, exporting."""
