"""A finished network, used: loaded from its workdir, predicting, exported."""
