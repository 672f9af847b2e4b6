"""Sign-in: cookies, protection of forms, and how sessions begin and end."""
