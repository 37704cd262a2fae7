"""Seven grammars of short stories about processes, ports, queues, launchers and engine cores.

What happens in them is what really happens on a machine; only the voices are made up.
"""
# ruff: noqa: E501 - a sentence stays on its line

from collections.abc import Callable

from data.model.make.cast import Being, Cast, mark, with_article
from data.model.make.stories import Story


def waiting_at_a_port(cast: Cast, hero: Being | None = None) -> Story:
    server = hero or cast.process()
    port, machine, client, wish = cast.port(), cast.machine(), cast.process(), cast.wish()
    text = " ".join(
        [
            _opening(cast, server),
            cast.pick(
                f"It ran on a machine called {machine} and waited at port {port}.",
                f"Its home was a machine called {machine}, and its work was to listen on port {port}.",
                f"All day long it waited at port {port} of a machine called {machine}.",
            ),
            cast.pick(
                "For a long time nobody came, so the kernel let it sleep.",
                "The night was quiet, and no client came.",
                "While it waited it slept, and used no time of the processor at all.",
            ),
            cast.pick(
                f"Then a client named {client.name} connected to port {mark(port)}.",
                f"In the morning a client named {client.name} knocked at port {mark(port)}.",
            ),
            cast.pick(
                f"The kernel put the connection into the accept queue and woke {mark(server.name)}.",
                f"The connection lay in the accept queue until {mark(server.name)} woke up and accepted it.",
            ),
            cast.pick(
                f'"What can I do for you?" asked {mark(server.name)}. "I would like {wish}," said {mark(client.name)}.',
                f'"Please send me {wish}," wrote {mark(client.name)}. {server.name} read every byte of the request.',
            ),
            cast.pick(
                f"{server.name} thought for nine milliseconds and then wrote {mark(wish)} into the socket.",
                f'"Here is {mark(wish)}," answered {mark(server.name)}, and sent it word by word.',
                f"So {server.name} made {mark(wish)} and streamed it to {mark(client.name)}, one token at a time.",
            ),
            cast.pick(
                f'"Thank you, {mark(server.name)}," said {mark(client.name)}, and closed the connection.',
                f"{client.name} was happy with the answer and hung up politely.",
            ),
            cast.pick(
                f"Then {server.name} went back to port {mark(port)} and waited for the next client.",
                f"And {mark(server.name)} is still there, on {mark(machine)}, listening on port {mark(port)}.",
                f"That is how a server lives: it waits at port {mark(port)}, it answers, and it waits again.",
            ),
        ]
    )
    return Story(
        text,
        f"a small process named {server.name} who waits at a port",
        [
            (f"At which port did {server.name} wait?", f"{server.name} waited at port {mark(port)}."),
            (f"What did {client.name} ask for?", f"{client.name} asked for {mark(wish)}."),
            ("What was the machine called?", f"The machine was called {mark(machine)}."),
            ("What was the name of the client?", f"The client was named {mark(client.name)}."),
        ],
    )


def first_in_first_out(cast: Cast, hero: Being | None = None) -> Story:
    server = hero or cast.process()
    first, second, third, port = cast.process().name, cast.process().name, cast.process().name, cast.port()
    text = " ".join(
        [
            _opening(cast, server),
            cast.pick(
                f"It was busy, so three clients had to wait in the queue at port {port}.",
                f"It could serve only one client at a time, and that {_time(cast)} three clients came to port {port}.",
            ),
            cast.pick(
                f"{first} came first, {second} came second, and {third} came last.",
                f"First came {first}, then came {second}, and after them came {third}.",
            ),
            cast.pick(
                f'"I am in a hurry," said {third}, who was last. "But I was here before you," said {second}.',
                f'"May I go first?" asked the last one, {mark(third)}. "No," said {first}, who was first.',
                f"Nobody pushed. {third} stood behind {mark(second)}, and {second} stood behind {mark(first)}.",
            ),
            cast.pick(
                f'"A queue is fair," said {mark(server.name)}. "First in, first out."',
                f"But {mark(server.name)} knew only one rule: first in, first out.",
            ),
            cast.pick(
                f"So {server.name} served {mark(first)}, then {mark(second)}, and then {mark(third)}.",
                f"So it answered {mark(first)} first. The next was {mark(second)}, and the last was {mark(third)}.",
            ),
            cast.pick(
                f"When the queue was empty, {mark(server.name)} went to sleep at port {mark(port)}.",
                f"In the end everybody had an answer, and port {mark(port)} was quiet again.",
                f"{third} had waited the longest, but it was served all the same.",
            ),
        ]
    )
    return Story(
        text,
        "three clients in a queue",
        [
            ("Who was served first?", f"{mark(first)} was served first."),
            ("Who was served last?", f"{mark(third)} was served last."),
            ("Who was second in the queue?", f"{mark(second)} was second in the queue."),
            ("At which port was the queue?", f"The queue was at port {mark(port)}."),
        ],
    )


def launcher_and_children(cast: Cast, hero: Being | None = None) -> Story:
    launcher = hero or cast.process()
    one, two, three = cast.process().name, cast.process().name, cast.process().name
    port, machine = cast.port(), cast.machine()
    lost, kept = cast.random.choice([(one, two), (two, one)])
    text = " ".join(
        [
            cast.pick(
                f"On a machine called {machine} there lived a launcher named {launcher.name}.",
                f"{launcher.name} was the launcher of a server on {machine}.",
            ),
            cast.pick(
                f"Before anything else {launcher.name} opened port {port}, so that no client would ever be refused.",
                f"The first thing that it did every morning was to bind port {port}.",
            ),
            cast.pick(
                f"Then it started two children, {one} and {two}, and gave each of them the listening socket.",
                f"It had two children, {one} and {two}, who both accepted clients from the same socket.",
            ),
            cast.pick(
                f"One {_time(cast)} {lost} was killed.",
                f"One {_time(cast)} {lost} used too much memory, and the kernel ended it.",
                f"One {_time(cast)} {lost} read from an address that was not its own, and so it crashed.",
            ),
            cast.pick(
                f"{launcher.name} saw at once that the pipe to {mark(lost)} was closed.",
                f"The kernel told {mark(launcher.name)} that {mark(lost)} was gone.",
            ),
            cast.pick(
                f'"Do not be afraid," said {mark(launcher.name)} to {mark(kept)}, who was still alive. '
                f'"I will start a new process."',
                f"{mark(kept)} went on and took every client, for the socket was shared.",
            ),
            cast.pick(
                f"The new child was called {three}, and it took the place of {mark(lost)}.",
                f"In place of {mark(lost)} it started a new child named {three}.",
            ),
            cast.pick(
                f"Now {kept} and {mark(three)} listened together on port {mark(port)}.",
                f"{three} got the same listening socket, and soon it accepted clients at port {mark(port)} beside {mark(kept)}.",
            ),
            cast.pick(
                f"The clients of {mark(machine)} never noticed anything.",
                f"And the queue at port {mark(port)} had not lost a single waiting client.",
                f"{launcher.name} wrote one line into the log: {mark(lost)} left, {mark(three)} came.",
            ),
        ]
    )
    return Story(
        text,
        f"a launcher named {launcher.name} and its children",
        [
            ("Which child was lost?", f"{mark(lost)} was lost."),
            ("What was the new child called?", f"The new child was called {mark(three)}."),
            ("Which port did the launcher open?", f"The launcher opened port {mark(port)}."),
            ("What was the launcher called?", f"The launcher was called {mark(launcher.name)}."),
        ],
    )


def borrowed_blocks(cast: Cast, hero: Being | None = None) -> Story:
    engine = hero or cast.process()
    one, two, wish = cast.process().name, cast.process().name, cast.wish()
    many, few = str(cast.random.randint(10, 60)), str(cast.random.randint(2, 9))
    text = " ".join(
        [
            cast.pick(
                f"An engine core named {engine.name} owned the memory of a GPU and divided it into blocks.",
                f"{engine.name} was an engine core. It had a GPU, and it lent the blocks of its memory to requests.",
            ),
            cast.pick(
                f"One {_time(cast)} two requests came, {one} and {two}.",
                f"Two requests named {one} and {two} arrived in the same step.",
            ),
            cast.pick(
                f'"My prompt is long," said {one}. "I need {many} blocks." "{few} blocks are enough for me," said {two}.',
                f"{one} had a long prompt and borrowed {many} blocks. {two} had a short one and borrowed only {few} blocks.",
            ),
            cast.pick(
                f"The engine core put both into one batch, and in every step {one} got a token and {mark(two)} got a token.",
                f"{engine.name} computed both together, for a batch of two costs hardly more than one.",
            ),
            cast.pick(
                f"{two} only wanted {wish}, so it was done first and gave back its {mark(few)} blocks.",
                f"{two} had asked for {wish}. Soon it was ready, and {mark(two)} gave its {mark(few)} blocks back.",
            ),
            cast.pick(
                f"Then the client of {one} hung up. The {mark(many)} blocks of {mark(one)} were free within two steps.",
                f"After a while {mark(one)} reached its end token and returned all its {mark(many)} blocks.",
            ),
            cast.pick(
                f'"A block that is not given back is lost for everybody," said {mark(engine.name)}.',
                f"{mark(engine.name)} counted its blocks, and none of them was missing.",
                f"All blocks were free again, and {mark(engine.name)} waited for the next request.",
            ),
        ]
    )
    return Story(
        text,
        f"an engine core named {engine.name} and two requests",
        [
            (f"How many blocks did {one} borrow?", f"{one} borrowed {mark(many)} blocks."),
            (f"How many blocks did {two} borrow?", f"{two} borrowed {mark(few)} blocks."),
            (f"What did {two} ask for?", f"{two} asked for {mark(wish)}."),
            ("What was the engine core called?", f"The engine core was called {mark(engine.name)}."),
        ],
    )


def handing_over(cast: Cast, hero: Being | None = None) -> Story:
    old = hero or cast.process()
    new, port, guest = cast.process(), cast.port(), cast.process().name
    number = str(cast.random.randint(3, 40))
    text = " ".join(
        [
            _opening(cast, old),
            f"For many weeks it had listened on port {port}, and it held the listening socket as descriptor {number}.",
            cast.pick(
                f"One {_time(cast)} a new process named {new.name} was started to take its place.",
                f"Then a younger process came. Its name was {new.name}.",
            ),
            cast.pick(
                f'"How do I get to port {mark(port)}?" asked {mark(new.name)}. "I will send you the descriptor," said '
                f"{mark(old.name)}.",
                f'"I give you descriptor {mark(number)}," said {mark(old.name)}. "With it you can accept at port {mark(port)}."',
            ),
            cast.pick(
                f"So {old.name} sent descriptor {mark(number)} through a Unix socket, and {mark(new.name)} received it.",
                f"The kernel made a copy of descriptor {mark(number)} for {mark(new.name)}. Both of them now held the same socket.",
            ),
            cast.pick(
                f"Meanwhile a client named {guest} was waiting in the accept queue.",
                f"Just then a client named {guest} connected.",
            ),
            cast.pick(
                f'"Who will take me?" asked {mark(guest)}. "I will," said {mark(new.name)}, who was ready.',
                f"{new.name} accepted {mark(guest)}, because the queue belongs to the socket and not to a process.",
            ),
            cast.pick(
                f"Then {old.name} closed its copy, finished its last answer and exited with code zero.",
                f"{old.name} waited until its last client was served, and then it left quietly.",
            ),
            cast.pick(
                f"Port {mark(port)} had been open all the time, and {mark(guest)} never knew that {mark(old.name)} was gone.",
                f"Since that day {mark(new.name)} has been listening on port {mark(port)}.",
            ),
        ]
    )
    return Story(
        text,
        f"an old process named {old.name} who hands over its port",
        [
            ("Who took over the port?", f"{mark(new.name)} took over the port."),
            ("Which port was it?", f"It was port {mark(port)}."),
            ("Which client was waiting?", f"A client named {mark(guest)} was waiting."),
            ("Which descriptor did it send?", f"It sent descriptor {mark(number)}."),
        ],
    )


def word_by_word(cast: Cast, hero: Being | None = None) -> Story:
    server = hero or cast.process()
    engine, client, wish = cast.process().name, cast.process().name, cast.wish()
    text = " ".join(
        [
            cast.pick(
                f"{server.name} was an API server. It could read and write text, but it had no GPU.",
                f"There was once an API server named {server.name}, who spoke with clients all day.",
            ),
            cast.pick(
                f"Its friend {engine} was an engine core. {engine} had a GPU, but it knew only numbers.",
                f"In another process lived the engine core {engine}, who had never seen a word of text.",
            ),
            cast.pick(
                f"One {_time(cast)} a client named {client} asked for {wish}.",
                f'A client named {client} came and said, "I would like {wish}."',
            ),
            cast.pick(
                f"{mark(server.name)} turned the text into tokens and sent them to {mark(engine)} over a channel.",
                f'"I cannot make {mark(wish)} alone," thought {mark(server.name)}, and sent the token ids to {mark(engine)}.',
            ),
            cast.pick(
                f"{engine} computed one step after another, and every step gave one token.",
                f"In every step {mark(engine)} chose one token and sent it back to {mark(server.name)}.",
            ),
            cast.pick(
                f"{server.name} turned each token into text and passed it on to {mark(client)} at once.",
                f"So {mark(client)} could read the first word long before the last one was made.",
            ),
            cast.pick(
                f'"What fine words," said {mark(client)}. "They are not mine," said {mark(server.name)}. '
                f'"It was {mark(engine)} who chose them."',
                f"When the end token came, {mark(client)} had all of {mark(wish)}.",
            ),
            cast.pick(
                f"So {server.name} and {mark(engine)} made together what neither could make alone.",
                "A good message carries little, and that is why it is quick.",
                f"And {mark(engine)} took the next request from its queue.",
            ),
        ]
    )
    return Story(
        text,
        f"an API server named {server.name} and an engine core",
        [
            ("Who was the engine core?", f"The engine core was {mark(engine)}."),
            (f"What did {client} want?", f"{client} wanted {mark(wish)}."),
            ("Which process was the API server?", f"The API server was {mark(server.name)}."),
            ("What was the client called?", f"The client was called {mark(client)}."),
        ],
    )


def shared_page(cast: Cast, hero: Being | None = None) -> Story:
    """Copy on write: two processes share a page until one of them writes to it."""
    seeker = hero or cast.process()
    sibling, thing, page = cast.process().name, cast.thing(), str(cast.random.randint(10, 99))
    text = " ".join(
        [
            _opening(cast, seeker),
            cast.pick(
                f"It had been forked from a parent who kept a picture of {with_article(thing)} on page {page}.",
                f"In its memory, on page {page}, there was a picture of {with_article(thing)}.",
            ),
            cast.pick(
                f"It had a sibling named {sibling}, and at first both of them saw the same page.",
                f"Its sibling {sibling} shared that page, because neither had written to it.",
            ),
            cast.pick(
                f'"Let us keep the {mark(thing)} as it is," said {sibling}.',
                f'"I like the {mark(thing)}," said {seeker.name}. "So do I," said {mark(sibling)}.',
            ),
            cast.pick(
                f"But one {_time(cast)} {seeker.name} wrote a single byte to page {mark(page)}.",
                f"One {_time(cast)} {sibling} wanted another colour and wrote to page {mark(page)}.",
            ),
            cast.pick(
                "At once the kernel made a copy of the page, so that each of them had its own.",
                f"The kernel saw it and copied page {mark(page)}, for that is what copy on write means.",
            ),
            cast.pick(
                f"From then on {seeker.name} had one {mark(thing)} and {mark(sibling)} had another.",
                f"Now {seeker.name} and {mark(sibling)} could no longer see what the other one did to the {mark(thing)}.",
            ),
            cast.pick(
                "Only what is written is copied, and all the rest is shared.",
                f"All other pages they still shared, and {seeker.name} was glad about it.",
            ),
        ]
    )
    return Story(
        text,
        f"a process named {seeker.name} and a shared page",
        [
            ("Which page was shared?", f"Page {mark(page)} was shared."),
            ("What was the sibling called?", f"The sibling was called {mark(sibling)}."),
            ("What was the picture of?", f"It was a picture of {with_article(thing).split()[0]} {mark(thing)}."),
        ],
    )


STORIES: list[Callable[..., Story]] = [
    waiting_at_a_port,
    first_in_first_out,
    launcher_and_children,
    borrowed_blocks,
    handing_over,
    word_by_word,
    shared_page,
]


def _opening(cast: Cast, who: Being) -> str:
    manner = cast.pick("small", "patient", "quiet", "careful", "young", "friendly")
    return cast.pick(
        f"Once upon a time there was {with_article(manner)} process named {who.name}.",
        f"{who.name} was {with_article(manner)} process.",
        f"Deep inside a computer lived {with_article(manner)} process called {who.name}.",
        f"Once upon a time, {with_article(manner)} process named {who.name} was started.",
        f"There once was {with_article(manner)} process whose name was {who.name}.",
        f"This is the story of {with_article(manner)} process named {who.name}.",
    )


def _time(cast: Cast) -> str:
    return cast.pick("morning", "night", "evening", "Monday", "afternoon", "busy day", "quiet day")
