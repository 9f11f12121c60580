"""One module for each data set that a SPEC can name; `sfumato.data.registry` lists them.

`folder`, `utkface`, `celeba`, `cifar` and `fashion_mnist` read files. `synthetic` draws faces (`drawn_faces`, `strokes`) from a
known joint distribution (`joint`).
"""
