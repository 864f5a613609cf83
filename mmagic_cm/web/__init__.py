"""A web page to sample, edit and look at runs with (extra ``web``): :func:`.server.serve`."""
