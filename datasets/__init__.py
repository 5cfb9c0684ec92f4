"""The data sets of the CoOp protocol; importing this package registers them with Dassl."""
