"""Fast inference on a CPU, part by part; `mlff.engine.Engine` puts the parts together.

| file | idea |
|---|---|
| `lanes.py` | vectors of 16 and 64 float32 as numba values |
| `team.py` | the one pool of threads, and work shared among it |
| `skin.py` | neighbour lists that last for many steps |
| `edges.py` | kernels over edges: distances, messages, and both directions of a pair backward |
| `atoms.py` | kernels over atoms: dense layers, forward and backward |
| `network.py` | weights in the kernels' order, and the passes through all layers |
| `charges.py` | charges, Coulomb and charge-equilibration energy, and the derivative by the charges |
| `mesh.py` | the reciprocal sum by smooth particle-mesh Ewald |
| `dispersion.py` | D3-CSO over the far neighbours |
"""
