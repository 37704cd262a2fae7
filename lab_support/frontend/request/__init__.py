"""OpenAI's requests and answers as structs, and the checks of a request's fields."""
