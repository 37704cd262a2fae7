"""OpenAI's requests and answers as structs; what a request's fields ask for, checked."""
