"""Networks as machine code for this CPU, which LLVM writes: all layers on a few pixels, then the next pixels.

A block of pixels three vectors wide goes through all hidden layers while it lies in the core's first cache. The sums of
some units stay in registers while the layer's inputs go by; rectifier, added layer and rounding come before anything is
written. What the last product reads is kept for a panel of blocks: the product's rows are then written in long runs.

Each sum begins with its bias and takes its terms one after the other, each rounded once (fused multiply-add). So a
value depends neither on the pixel's place nor on the width of the CPU's vectors.
"""
