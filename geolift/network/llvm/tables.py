"""What code is told in memory: the fields of its tables, all of eight bytes."""

STEP = ("weights", "biases", "reads", "n_reads", "groups", "slope", "added", "written", "pairs")
"""One layer. ``reads``, ``added``, ``written``, ``pairs``: where rows begin among the block's numbers; −1 = nothing."""

JOB = (
    *("arena", "panel", "blocks", "tile_shapes", "steps", "n_steps", "top", "n_top"),
    *("pixels", "pixel_stride", "n_inputs", "coordinates", "coordinate_stride", "n_coordinates"),
    *("weights", "biases", "groups", "clipped", "lowest", "highest"),
    *("out", "rows", "steps_per_unit", "ranges"),
)
"""One call: addresses, counts, the bits of a float32."""

RANGES = 3
"""Vectors that tell of a panel: lowest and highest number, and zero or, if one is not finite, NaN."""

TILE_ROWS, TILE_PAIRS = 16, 16
"""A tile of AMX: 16 rows of 16 float32, or of 16 pairs of bfloat16."""
