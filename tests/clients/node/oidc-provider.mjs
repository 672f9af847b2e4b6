// A certified provider of OpenID Connect on a port of this machine, for tests of the dashboard.
// It prints its issuer once it listens. Anybody may sign in under any name, with any password;
// `admin-…` is in the group "ops".
import { createServer } from "node:http";
import { Provider } from "oidc-provider";

const { CLIENT_ID, CLIENT_SECRET, REDIRECT_URI } = process.env;

const server = createServer((request, response) => handler(request, response));
let handler = (request, response) => response.writeHead(503).end();

server.listen(Number(process.env.PORT ?? 0), "localhost", () => {
  const issuer = `http://localhost:${server.address().port}`;
  const provider = new Provider(issuer, {
    clients: [
      { client_id: CLIENT_ID, client_secret: CLIENT_SECRET, redirect_uris: REDIRECT_URI.split(" ") },
    ],
    claims: {
      openid: ["sub"],
      profile: ["name"],
      email: ["email", "email_verified"],
      groups: ["groups"],
    },
    scopes: ["openid", "profile", "email", "groups"],
    conformIdTokenClaims: false, // claims are in the ID token, where the gateway reads them
    cookies: { keys: ["only-a-test"] },
    pkce: { required: () => true },
    findAccount: (_, id) => ({
      accountId: id,
      claims: () => ({
        sub: id,
        name: `Person ${id}`,
        email: `${id}@example.com`,
        email_verified: true,
        groups: id.startsWith("admin-") ? ["staff", "ops"] : ["staff"],
      }),
    }),
  });
  handler = provider.callback();
  console.log(issuer);
});
