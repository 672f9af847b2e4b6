"""The dashboard: pages for people who hold keys and for administrators."""
