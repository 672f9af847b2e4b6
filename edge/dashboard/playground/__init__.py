"""The playground's requests and answers, in each dialect."""
