"""Faults, drawn from a seed, while clients listen and publishers number their messages; and the account of it.

    python -m bench.chaos --seconds 60 --seed 7         # make chaos SECONDS=60 SEED=7

faults      what can be done to the platform, and which ends of conversations it explains
programme   what is published and written meanwhile, and how much of everything
schedule    the acts of one run, a pure function of the seed
stage       a private Redis, both daemons with their workers, and a fault-injecting proxy on each way
actors      each fault, done
crowd       the clients: patient ones, slow ones, deaf ones, some that vanish
journal     what the daemons' logs say of outages, of deaths and of each conversation
accounts    each client's frames against what was published and against the journal, without any I/O
working     whether everything works again
closing     the end, while the daemons live: their figures beside the clients', and that nothing is left over
audit       the books, when all is over
play        one run from the first client to the last goodbye, with its verdicts

Only loopback addresses are used. The proxy is the tests' (`tests.faultproxy`), and so are the publisher
(`tests.support.load`) and the client (`tests.support.client`): there is one of each in the project.
"""
