"""One file for each source of data; each gives a `lsm.encode.Dataset`.

| file | idea |
|---|---|
| `images.py`, `idx.py`, `digits.py` | MNIST and Fashion-MNIST with their format; the digits that need no download |
| `emnist.py`, `handwriting.py` | letters: pictures, and attempts to write them recorded in motor cortex |
| `nmnist.py`, `nmnist_files.py`, `nmnist_mat.py` | digits before a moving camera, wherever and however they are kept |
| `nmnist_sim.py`, `saccade.py` | the same with a simulated camera |
| `ntidigits.py`, `fsdd.py`, `cochlea.py` | spoken digits heard by a silicon cochlea, and by a simulated one |
| `files.py`, `layout.py`, `pictures.py` | a user's own images and recordings, in folders by class |
| `digit_pairs.py`, `letter_pairs.py`, `synthetic_pairs.py`, `pairs.py` | two senses of the same classes, and their rules |
| `recordings.py`, `sounds.py`, `subsets.py` | events as rasters, of cameras and of cochleas; which samples are used |
| `sensor_statistics.py`, `cochlea_statistics.py` | how alike simulated and real recordings are |
| `fetch.py`, `containers.py`, `matfile.py` | downloads, folders and archives behind one face, MATLAB files |
| `kept.py` | simulated recordings kept on disk |
"""
