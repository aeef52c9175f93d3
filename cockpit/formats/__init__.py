"""What a run is written as for other tools, and read from: CSV, JSON, Parquet, pictures, logs of f-dangel/cockpit."""
