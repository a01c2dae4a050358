"""GGUF files of a merged model, for llama.cpp and Ollama."""
