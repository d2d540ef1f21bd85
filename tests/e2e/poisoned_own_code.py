"""Takes the place of client/own_code.py at one site of the end-to-end test: every update has a NaN."""

import numpy as np
from client.honest_own_code import APP_FOLDER, main

__all__ = ["APP_FOLDER"]


def poison():
    import client.app

    train_honestly = client.app.train_locally

    def train_locally(*args, **kwargs):
        result = train_honestly(*args, **kwargs)
        result.arrays[0].flat[0] = np.nan
        return result

    client.app.train_locally = train_locally


if __name__ == "__main__":
    poison()
    main()
