"""The commands of :mod:`cockpit.cli`: their options, and what stands behind them."""
