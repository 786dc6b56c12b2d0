"""The lab: backtest, calibrate, stress and rehearse, with the code that runs live."""
