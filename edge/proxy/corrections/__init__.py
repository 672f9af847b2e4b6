"""Corrections of requests that an upstream refused.

change   the changes that can be made to a body
remedy   finds the changes for a refusal
learned  remembers lasting corrections by target
"""
