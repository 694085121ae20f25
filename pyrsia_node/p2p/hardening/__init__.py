"""Every measure against a defect of py-libp2p, in one package, each beside the defect's name.

A host made here differs from the library's in what follows and in nothing else. Names in
brackets are those of docs/design/p2p.md, which says what a stranger could do without them; each
has a regression test over real sockets that fails with the measure switched off.

    [K1 K2 K3 W2]  no error of an inbound stream reaches the service manager
    [K4 K5 K6]     any error in checking a gossip message rejects that message
    [W1]           an inbound connection gives its slot back when it ends
    [M1]           a connection that pours data beyond its window is closed
    [D1]           few unfinished handshakes per address, few strangers in all
    [F1]           a frame is written whole or the connection ends; closing never hangs
    [A1]           nobody is dialled but by our own decision
    [S1]           the host's own key is never evicted from the peer store
    [P1]           small messages are not answered by a window update each (for speed)

And in the settings: Noise alone (the defaults offer plaintext, where anybody is anybody), yamux
alone, frozen peers noticed, no silent failure to listen. This package
knows no protocol of ours. It is written against exactly one release and refuses every other.
"""
