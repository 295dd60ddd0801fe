"""`penstock batch`: a file of prompts in, a file of answers out, whatever happens in between.

lines.py reads the input, journal.py remembers how far each line is, output.py writes what came of it, api.py asks the
service, run.py brings them together, progress.py shows it, command.py is the command.
"""
