"""The parts of the fake host: `sandhog_sdk.testing`."""
