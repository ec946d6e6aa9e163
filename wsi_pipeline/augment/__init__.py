"""Random changes of images on the device, keyed by tile and epoch; stain normalisation."""
