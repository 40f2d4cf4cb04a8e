"""How good the predictions are, measured on events the models have not seen.

* :mod:`training.evaluation.measures`: accuracy, coverage by group, calibration of goal probabilities, from backtests.
* :mod:`training.evaluation.learning`: what each model makes of 0, 5, 20, 100 … past events.
* :mod:`training.evaluation.outside`: the relevant part on outside files: spend and conversions, e-mail experiments,
  daily counts before an event.
* :mod:`training.evaluation.report`: one self-contained HTML page of all of it.

Decisions are measured where several stages meet, in :mod:`turnout.cli.evaluation`.
"""
