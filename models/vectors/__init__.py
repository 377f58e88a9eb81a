"""Vectors of queries and products: packed, stored, looked up and compared; numpy alone serves."""
