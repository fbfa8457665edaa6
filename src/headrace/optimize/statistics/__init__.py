# SPDX-License-Identifier: Apache-2.0
"""What calibration frames say of a float network: ranges, histograms, sums; computed chunk by chunk."""
