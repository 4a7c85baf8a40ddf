"""An operations desk: alerts become incidents, somebody is paged, and what nobody takes care of is escalated.

alert        what comes in
incident     an agent a fingerprint: repeated alerts are one incident; it escalates when nobody acknowledges
on_call      an agent a team: who is on duty, paged and phoned over HTTP
board        the agent that counts, and publishes a digest every morning
inbox        an agent a reader of the digest
pager        the HTTP client that the effects use;   pager_server: a pager for the demonstration, with a witness file
desk         the agents and the subscriptions together
feed         a file of events into the system;       report: what came of them
"""
