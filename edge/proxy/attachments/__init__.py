"""Attachments: files and links in a conversation, written as the target takes them."""
