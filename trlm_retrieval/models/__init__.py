"""Where models come from.

``store`` knows names and fetches, ``hub`` tells whether a hub has a model, ``source`` checks a
name before anything heavy is imported. ``loading`` reads folders, GGUF files and hub ids,
``adapter`` and ``int8_weights`` two kinds of small folders, ``onnx_weights`` turns another format
into one, ``kinds`` tells language models from encoders. ``embedder`` is the model of the first
stage, ``plain_embedder`` how most of them are read.
"""
