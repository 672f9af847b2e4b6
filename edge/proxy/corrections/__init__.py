"""Changes of a request that a refusal of its upstream asks for.

change   what can be changed in a request's body, and how
remedy   which change answers a refusal, if any
learned  what each target does not take, for the requests after
"""
