"""A model as a file that other programs run: ONNX, a matrix for plain CLIP, torch.export."""
