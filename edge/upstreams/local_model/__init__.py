"""Local language model in llama.cpp, for demos and tests."""
