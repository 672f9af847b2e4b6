"""Sign-in by OpenID Connect: authorization code flow with PKCE.

attempt    what a browser keeps between the start and the callback
provider   the three calls: discovery, keys, exchange of the code
id_token   verification of the ID token
identity   who that is: role, owner, name
"""
