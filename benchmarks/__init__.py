"""Speed and memory of Beamish against plain asyncio, against the BEAM and against other Python libraries."""
