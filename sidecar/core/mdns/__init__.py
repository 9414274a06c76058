"""Discovery on the local network by multicast DNS (specs discovery/mdns; RFC 6762).

A node now and then asks everybody on a link who is there, and all answer to all: so one question tells everybody of
everybody. An answer is a claim, which anybody on the link can make; who really is at an address shows in the handshake.

Import from its files: `statistics` is light, the others load a DNS library.
"""
