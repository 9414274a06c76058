from sidecar import __version__


def test_the_two_distributions_have_one_version() -> None:
    from importlib.metadata import version

    assert version("sidecar") == version("sidecar-client") == __version__
