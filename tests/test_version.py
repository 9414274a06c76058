from sidecar import __version__


def test_the_two_distributions_have_one_version() -> None:
    from importlib.metadata import version

    assert version("p2p-sidecar") == version("p2p-sidecar-client") == __version__
