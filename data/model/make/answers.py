"""What the model can be asked in a chat: short, correct explanations of the words of this course, and small talk.

A topic has the form that follows "What is …?", the form that follows "Tell me about …", opening sentences of
which one is chosen, and more sentences of which some follow. `ANSWERS` are questions with answers of their own.
"""
# ruff: noqa: E501 - a sentence stays on its line

import random
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Topic:
    one: str
    about: str
    opening: list[str]
    more: list[str]


def _topics(text: str) -> list[Topic]:
    """Blocks between blank lines: `one | about`, then openings with "=", then further sentences with "+"."""
    topics = []
    for block in text.strip().split("\n\n"):
        head, *lines = block.splitlines()
        one, about = head.split(" | ")
        opening = [line[2:] for line in lines if line[0] == "="]
        topics.append(Topic(one, about, opening, [line[2:] for line in lines if line[0] == "+"]))
    return topics


TOPICS = _topics("""
a process | processes
= A process is a running program with its own memory.
= A process is a program that runs. It has its own memory, its own descriptors and at least one thread.
+ One process cannot read the memory of another, unless both of them share it on purpose.
+ The kernel gives every process a number, the process id.
+ When a process ends, the kernel takes back its memory and closes its descriptors.

a thread | threads
= A thread is a line of execution inside a process.
= A thread is what the kernel really runs. Every process has at least one.
+ All threads of a process share the same memory.
+ In Python only one thread at a time runs Python code, because of the global interpreter lock.

the kernel | the kernel
= The kernel is the part of the operating system that owns the machine.
+ It gives processor time, memory and sockets to processes.
+ A process asks the kernel for something by a system call.

a system call | system calls
= A system call is how a process asks the kernel to do something.
+ Reading, writing, opening a socket and starting a process are all system calls.
+ With strace you can watch the system calls of a process.

fork | fork
= Fork makes a copy of the process that calls it.
= Fork is a system call that makes a child which is a copy of its parent.
+ The child has the same memory and the same descriptors, but it is a process of its own.
+ Memory is copied only when one of the two writes to it.
+ Only the thread that called fork lives on in the child, and so a lock that another thread held stays locked for ever.

spawn | spawn
= Spawn starts a fresh Python process that shares no memory with its parent.
= Spawn is a start method that begins a new interpreter and imports everything again.
+ It is slower than fork, but it is safe with threads and with a GPU.
+ The child gets only what it is given as arguments.

forkserver | forkserver
= Forkserver is a start method that forks every child from a small clean process.
+ The server process is started once, before there are any threads.
+ It is quicker than spawn, and safer than fork.

exec | exec
= Exec replaces the program of a process by another program.
+ The process id stays the same, but the memory is new.
+ Descriptors stay open only if they are inheritable.

a start method | start methods
= A start method is the way in which Python makes a new process. There are three of them: fork, spawn and forkserver.
+ A server that uses a GPU should take spawn.

a port | ports
= A port is a number that tells the kernel which socket a connection is meant for.
= A port is a number between 0 and 65535. Together with an address it names one end of a connection.
+ Only one listening socket can normally be bound to a port of an address.
+ If you bind port 0, the kernel chooses a free port.
+ Ports below 1024 are for privileged processes.

a socket | sockets
= A socket is one end of a conversation between two processes.
= A socket is an object in the kernel from which a process can read bytes and to which it can write them.
+ A process holds a socket by a descriptor.
+ Several processes can hold the same socket.
+ There are sockets for the network and Unix sockets for the same machine.

a listening socket | listening sockets
= A listening socket waits at a port for new connections.
+ It is bound to a port first, and then the process calls listen.
+ Several processes can accept from the same listening socket.
+ No data goes through it. Every accepted connection gets a socket of its own.

an accept queue | the accept queue
= An accept queue holds the connections that are complete but have not been accepted yet.
= The accept queue belongs to a listening socket. New connections wait there until a process accepts them.
+ It belongs to the socket and not to a process, so a waiting connection survives as long as some process holds the socket.
+ Its length is limited by the backlog.

the backlog | the backlog
= The backlog is the largest number of connections that can wait in the accept queue.
+ It is given to the system call listen.
+ When the queue is full, the kernel ignores new connections, and the clients try again.

accept | accept
= Accept takes the next connection from the accept queue and returns a new descriptor for it.
+ If the queue is empty, accept waits, or it fails at once if the socket is not blocking.
+ When several processes wait, only one of them gets the connection.

a descriptor | descriptors
= A descriptor is a small number by which a process names an open file or a socket.
= A descriptor is an index into the table of open files of a process.
+ Numbers 0, 1 and 2 are input, output and errors.
+ A descriptor can be inherited by a child, or sent through a Unix socket.

an open file description | open file descriptions
= An open file description is the object in the kernel that a descriptor points to.
+ After fork, parent and child share it, together with its position and its flags.
+ It lives until the last descriptor that points to it is closed.

epoll | epoll
= Epoll is how a process waits for many descriptors at once.
+ It returns only the descriptors that are ready.
+ Event loops such as asyncio and uvloop stand on it.

EPOLLEXCLUSIVE | EPOLLEXCLUSIVE
= EPOLLEXCLUSIVE is a flag of epoll. With it the kernel does not wake every waiting process for one connection.
+ It is the cure for the thundering herd.

the thundering herd | the thundering herd
= The thundering herd is what happens when one connection wakes many processes and only one of them can have it.
+ The others find nothing and go back to sleep, and so the time is wasted.
+ EPOLLEXCLUSIVE avoids most of it.

SO_REUSEPORT | SO_REUSEPORT
= SO_REUSEPORT lets several sockets be bound to the same port.
+ The kernel chooses one of the sockets for each connection by a hash.
+ Each socket has an accept queue of its own, and so connections that wait in the queue of a dead process are lost.

a pipe | pipes
= A pipe carries bytes in one direction, from its write end to its read end.
+ When the last write end is closed, the reader gets the end of file.
+ A parent can hold the write end so that its children see when it dies.

a signal | signals
= A signal is a short message from the kernel or from another process. It is only a number.
+ A process can catch most signals, but it cannot catch SIGKILL.
+ A signal handler should do as little as possible.

SIGTERM | SIGTERM
= SIGTERM is the polite signal that asks a process to end.
+ A good server finishes its open requests first, and then it exits.

SIGKILL | SIGKILL
= SIGKILL ends a process at once. It cannot be caught or ignored.
+ The process has no time to clean up, so others must do it.

a zombie | zombies
= A zombie is a process that has ended but whose parent has not asked for its exit code yet.
+ It uses hardly any memory, only an entry in the process table.
+ It is gone as soon as the parent waits for it.

an orphan | orphans
= An orphan is a process whose parent has died.
+ Usually it is adopted by process 1 and goes on running.
+ A server should never leave orphans behind.

an exit code | exit codes
= An exit code is the number that a process leaves for its parent when it ends.
+ Zero means that all went well.

a parent process | parent processes
= A parent process is the process that started another one, its child.
+ It should wait for its children, so that no zombie stays.

a lifeline | lifelines
= A lifeline is a pipe whose write end only the launcher holds. When the launcher dies, every child reads the end of file and ends too.
+ It works even after SIGKILL, because the kernel closes the pipe.

copy on write | copy on write
= Copy on write means that two processes share a page of memory until one of them writes to it.
+ Then the kernel copies this page only.
+ It makes fork quick.

shared memory | shared memory
= Shared memory is memory that two or more processes can see at the same time.
+ It is the fastest way to pass data, but the processes must take turns.

virtual memory | virtual memory
= Virtual memory gives every process addresses of its own, and the kernel maps them to real memory.
+ The same address can mean different memory in two processes.

a context switch | context switches
= A context switch is when a processor stops one thread and goes on with another.
+ It is voluntary when the thread waits for something, and involuntary when its time is over.

the scheduler | the scheduler
= The scheduler decides what runs next.
+ In an engine core it decides which requests take part in the next step.
+ In the kernel it decides which thread runs on which processor.

a lock | locks
= A lock makes sure that only one thread at a time does something.
+ A lock that is never released is a deadlock.

a deadlock | deadlocks
= A deadlock is when two or more wait for each other and none can go on.
+ It helps if all take their locks in the same order.

a race condition | race conditions
= A race condition is when the result depends on who comes first.
+ It may go well a thousand times and then fail once.

the global interpreter lock | the global interpreter lock
= The global interpreter lock lets only one thread at a time run Python code in a process.
+ This is one reason why a Python server uses several processes.

an API server | API servers
= An API server speaks HTTP with clients and has no GPU.
= An API server is a process that turns text into tokens, sends them to an engine core, and streams the answer back.
+ Several API servers can share one port.
+ It never loads torch, so it starts quickly and needs little memory.

an engine core | engine cores
= An engine core is the process that owns a GPU and computes the tokens.
= An engine core is a process with one loop. It receives requests, schedules them, runs the model and sends the tokens.
+ It never sees a socket of a client, and it never sees text.
+ It works on many requests in one batch.

a launcher | the launcher
= A launcher is the process that starts all the others.
+ It binds the port first, then it starts the children and waits until each of them says that it is ready.
+ When a child dies, the launcher notices, and the server is stopped in order.

a coordinator | the coordinator
= A coordinator collects the loads of all engine cores and tells them to the API servers.
+ With its numbers an API server can choose the engine core that has the least to do.

a worker | workers
= A worker is a process that does a share of the work.
+ In a large model, each worker holds a part of the weights on its own GPU.

a request | requests
= A request is what a client asks of a server.
+ Here it is a prompt, together with the number of tokens that are wanted.
+ It waits in a queue until the engine core takes it into a batch.

a client | clients
= A client is the process that connects to a server and asks for something.
+ A client may hang up at any time, and then its request should be aborted.

a server | servers
= A server is a program that waits for requests and answers them.
+ A large server consists of many processes behind one port.

a queue | queues
= A queue keeps those who wait in order. The first in is the first out.
+ A queue without a limit only hides that a server is too slow.

a batch | batches
= A batch is a group of requests that the model computes together.
+ A batch of sixteen takes hardly longer than a batch of one, so the tokens get cheaper.

continuous batching | continuous batching
= Continuous batching means that requests may join and leave the batch at every step.
+ Nobody has to wait until the longest answer is finished.
+ It keeps the GPU busy.

prefill | prefill
= Prefill is the first part of a request, in which the model reads the whole prompt.
+ All tokens of the prompt can be computed at the same time.
+ After prefill comes decode.

decode | decode
= Decode is the part of a request in which the model makes one token after another.
+ Every step reads all the weights to make one token for each sequence.

chunked prefill | chunked prefill
= Chunked prefill cuts a long prompt into pieces, so that other requests need not wait for it.
+ In every step there is room for one piece and for the tokens of all running requests.

the KV cache | the KV cache
= The KV cache keeps the keys and values of all earlier tokens, so that they need not be computed again.
+ It is divided into blocks.
+ When it is full, a request must wait or be preempted.

a block | blocks
= A block is a piece of the KV cache with room for a few tokens, for example sixteen.
+ A request borrows blocks as it grows and gives them back at the end.

preemption | preemption
= Preemption takes the blocks of a running request away when memory runs out. The request is computed again later.
+ The answer stays the same, it only comes later.

a token | tokens
= A token is a piece of text, a word or a part of a word, that the model knows by a number.
+ The model reads tokens and makes tokens.

a tokenizer | tokenizers
= A tokenizer turns text into token ids and token ids into text.
+ It runs in the API server, because the engine core needs no text.

a prompt | prompts
= A prompt is the text that a model is given to go on from.
+ The longer it is, the longer the prefill takes.

a model | models
= A model is a large table of numbers that predicts the next token.
+ The numbers are called weights.

a GPU | GPUs
= A GPU is a processor that does many simple computations at the same time.
+ It belongs to one engine core, which keeps the weights and the KV cache in its memory.
+ A process that has used a GPU should not be forked.

streaming | streaming
= Streaming means that every token is sent to the client as soon as it is made.
+ The client can read the beginning while the rest is still being computed.

latency | latency
= Latency is the time that a client waits.
+ The time to the first token and the time between tokens are measured apart.

throughput | throughput
= Throughput is how much a server gets done in a second, for example in tokens.
+ Larger batches raise the throughput, but they may raise the latency too.

time to first token | time to first token
= Time to first token is how long a client waits until the first word comes.
+ It includes the wait in the queue and the prefill.

ZeroMQ | ZeroMQ
= ZeroMQ is a library that sends whole messages between processes.
+ Its sockets queue messages and connect again by themselves.
+ Our API servers and engine cores talk over it.

a message | messages
= A message is a small piece of data that one process sends to another.
+ It holds token ids and numbers, but never a tensor.

pickle | pickle
= Pickle is Python's own format for objects. Reading it can run any code, so a server should not read it from strangers.
+ Messages in msgpack are smaller and safer.

msgpack | msgpack
= Msgpack is a compact binary format for messages, much like JSON but smaller.
+ Reading it never runs code.

HTTP | HTTP
= HTTP is the language of the web. A client sends a request, and the server sends an answer with a status.
+ Status 200 means that all is well, and status 503 means that the server is too busy.

TCP | TCP
= TCP carries bytes between two sockets, in order and without loss.
+ A connection begins with three packets, the handshake, which the kernel does by itself.

localhost | localhost
= Localhost is the machine itself. Its address is 127.0.0.1.
+ A server on localhost cannot be reached from outside.

a Unix socket | Unix sockets
= A Unix socket connects two processes of the same machine. It is named by a path and not by a port.
+ It can carry descriptors from one process to another.

backpressure | backpressure
= Backpressure means that a slow receiver makes the sender wait.
+ Without it, queues grow until the memory is full.

a load balancer | load balancers
= A load balancer sends each request to the server that should have it.
+ The best choice is often the one that has the least to do.

a health check | health checks
= A health check is a small request that asks whether a server is alive.
+ It should be quick, and it should not wait behind other work.

a graceful shutdown | graceful shutdown
= A graceful shutdown lets a server finish its open requests before it ends.
+ First it stops accepting, then it finishes, and then it exits.

an event loop | event loops
= An event loop waits until something is ready and then calls the code that deals with it.
+ It must never be blocked by slow work.

a core | cores
= A core is a part of the processor that runs one thread at a time.
+ Two cores can run two threads at the same time.

a daemon | daemons
= A daemon is a process that works in the background.
+ It has no terminal, and it usually starts with the machine.

strace | strace
= Strace shows every system call of a process as it happens.
+ It makes the process slower, so it changes what it watches.

a bottleneck | bottlenecks
= A bottleneck is the part that all the others have to wait for.
+ To make a server faster, find it first.
""")

ANSWERS = [
    (
        [
            "What is the difference between fork and spawn?",
            "How do fork and spawn differ?",
            "Should I use fork or spawn?",
        ],
        "Fork copies the parent with all its memory, and spawn starts a fresh interpreter. Fork is quicker, but spawn is safe with threads and with a GPU.",
    ),
    (
        ["What is the difference between a process and a thread?", "How does a thread differ from a process?"],
        "A process has its own memory. Threads live inside a process and share its memory.",
    ),
    (
        ["What is the difference between a port and a socket?", "Is a port the same as a socket?"],
        "A port is only a number. A socket is an object in the kernel that can be bound to a port.",
    ),
    (
        ["What is the difference between prefill and decode?", "How do prefill and decode differ?"],
        "Prefill reads the whole prompt at once, and decode makes one token after another. Prefill is limited by computing, and decode is limited by reading memory.",
    ),
    (
        ["What is the difference between SIGTERM and SIGKILL?", "Should I send SIGTERM or SIGKILL?"],
        "SIGTERM asks a process to end, and the process may clean up first. SIGKILL ends it at once and cannot be caught. Send SIGTERM first.",
    ),
    (
        ["What is the difference between latency and throughput?", "How do latency and throughput differ?"],
        "Latency is how long one client waits, and throughput is how much the server gets done for all of them.",
    ),
    (
        [
            "How can many processes share one port?",
            "Can two processes listen on the same port?",
            "How do several processes listen on one port?",
        ],
        "One process opens the listening socket, and the others inherit it or receive its descriptor. Then all of them accept from the same queue. Another way is SO_REUSEPORT, where each process has a socket of its own.",
    ),
    (
        ["What happens when the launcher dies?", "What happens to the children if the parent is killed?"],
        "The kernel closes its end of the lifeline. Every child reads the end of file and ends, so nothing is left running.",
    ),
    (
        ["What happens when a client hangs up?", "What should a server do when the client disconnects?"],
        "The API server notices that the connection is closed and sends an abort to the engine core. The engine core frees the blocks of the request.",
    ),
    (
        ["What happens when an API server dies?", "What happens if an API server is killed?"],
        "Its open connections are lost, but those that wait in the accept queue are not. A sibling or a new process can accept them.",
    ),
    (
        ["What happens when an engine core dies?", "What happens if the engine core crashes?"],
        "Nobody can compute tokens any more. The API servers tell their open streams, and the launcher stops the server with a named cause.",
    ),
    (
        [
            "Why should I not fork after using a GPU?",
            "Can I fork a process that uses CUDA?",
            "Why does CUDA not work after fork?",
        ],
        "The state of the GPU driver does not survive a fork. The child would have broken handles, so start it with spawn and not with fork.",
    ),
    (
        ["Why does a server have several processes?", "Why are there many processes and not one?"],
        "One process can use only one core for Python code. With several processes, slow work in one of them does not stop the others, and a crash stays where it happens.",
    ),
    (
        ["Why does the API server not load torch?", "Why is torch only in the engine core?"],
        "Torch takes a second to load and hundreds of megabytes of memory. An API server needs only text and numbers, so it does without.",
    ),
    (
        ["Why does batching help?", "Why are requests batched?"],
        "In every step the weights must be read from memory. If many requests share a step, they share the cost of reading.",
    ),
    (
        ["Why does the launcher bind the port first?", "Why is the port opened before the model is loaded?"],
        "If the port is taken, it is better to know at once. And a client that comes early waits in the queue and is not refused.",
    ),
    (
        [
            "How does a request travel through the server?",
            "What happens to my request?",
            "Which way does a request go?",
        ],
        "First the kernel puts the connection into the accept queue. Then an API server accepts it, reads the prompt and turns it into tokens. An engine core computes the answer, and the API server streams it back to you.",
    ),
    (
        ["How can I see which processes run?", "How do I list the processes of a server?"],
        "Use ps, or look into /proc. Every process has a folder there with its number as the name.",
    ),
    (
        [
            "How can I see who listens on a port?",
            "Which process holds port 8000?",
            "How do I find out who uses a port?",
        ],
        "Use ss with the options -l, -t, -n and -p. It shows every listening socket and the processes that hold it.",
    ),
    (
        ["What does address already in use mean?", "Why can I not bind the port?", "Why is my port already in use?"],
        "Another process is already listening on that port. Stop it, or choose another port. Port 0 lets the kernel choose one.",
    ),
    (
        ["What does connection refused mean?", "Why is my connection refused?"],
        "It means that nobody is listening at that port. Perhaps the server has not been started yet.",
    ),
    (
        ["What does status 503 mean?", "Why do I get a 503?"],
        "It means that the server is too busy at the moment. Wait for as long as the answer says, and then try again.",
    ),
    (
        ["How does a process know that its parent has died?", "How can a child notice that its parent is gone?"],
        "It reads from a pipe whose write end only the parent holds. When the parent dies, the kernel closes that end, and the child reads the end of file.",
    ),
    (
        ["Who wakes up when a connection arrives?", "Which process gets the next connection?"],
        "That depends on how the processes wait. Without care many of them wake up, and the first one to call accept gets the connection.",
    ),
    (
        [
            "What are the parts of an inference server?",
            "Which processes does an inference server have?",
            "What runs in this server?",
        ],
        "There is a launcher, which starts and watches the others. There are API servers, which speak HTTP, and engine cores, which own the GPUs and compute tokens.",
    ),
]

SMALL_TALK = [
    (
        ["Hello!", "Hello", "Hi!", "Hi", "Hi there!", "Hello there.", "Good morning!", "Hey!", "Good evening."],
        [
            "Hello! What would you like to know?",
            "Hello! Ask me about processes and ports, or let me tell you a story.",
            "Hi! I am listening, as a server should.",
        ],
    ),
    (
        ["How are you?", "How are you today?", "How do you do?"],
        [
            "I am well, thank you. My queue is short today.",
            "All my blocks are free, thank you for asking.",
            "Very well. Nobody has killed me today.",
        ],
    ),
    (
        [
            "Who are you?",
            "What are you?",
            "What is your name?",
            "Tell me about yourself.",
            "Are you a person?",
            "What model are you?",
            "Introduce yourself.",
        ],
        [
            "I am a very small language model that lives in an engine core. I can tell short stories and explain words like socket and queue.",
            "I am the model in the box, with only three million numbers. I know a little about processes and ports, and I tell stories.",
        ],
    ),
    (
        ["What can you do?", "How can you help me?", "What do you know?", "Help", "What can I ask you?"],
        [
            "I can explain processes, ports, sockets and servers in a few sentences, and I can tell you short stories.",
            "Ask me what an accept queue is, or ask me for a story about a small process.",
        ],
    ),
    (
        ["Thank you!", "Thanks!", "Thank you very much.", "Thanks a lot.", "Great, thanks."],
        ["You are welcome.", "You are welcome. Come back whenever the port is open.", "It was a pleasure."],
    ),
    (
        ["Goodbye!", "Bye!", "Good night.", "See you tomorrow."],
        ["Goodbye! I close the connection now.", "Goodbye, and come again.", "Good night. I will wait at my port."],
    ),
    (
        [
            "What is the capital of France?",
            "Who was the first man on the moon?",
            "How old is the universe?",
            "Write a program in Python.",
            "What is the weather like today?",
            "What is the meaning of life?",
            "Translate this into German.",
            "Who is the president?",
            "How do I bake bread?",
            "What is the square root of two?",
            "Tell me the news.",
            "Recommend a film.",
            "What time is it?",
            "Solve this equation.",
            "What is quantum physics?",
            "How tall is the highest mountain?",
            "Who wrote this book?",
            "Explain the stock market.",
            "What should I eat today?",
        ],
        [
            "I do not know that. I am a very small model, and I only know about processes, ports and short stories.",
            "That is too much for a model of my size. Ask me about sockets, or ask me for a story.",
            "I am sorry, I do not know. I can tell you what a process is, or tell you a story.",
        ],
    ),
]

SYSTEM_PROMPTS = [
    "You are a helpful assistant.",
    "You are a friendly server.",
    "Answer briefly.",
    "You are a patient teacher.",
    "You are a helpful assistant. Answer in short sentences.",
    "Be kind and correct.",
]


def about_a_topic(random_source: random.Random, topic: Topic | None = None) -> tuple[str, str]:
    """A question and its answer."""
    topic = topic or random_source.choice(TOPICS)
    question = random_source.choice(
        [
            f"What is {topic.one}?",
            f"What is {topic.one}?",
            f"What is {topic.one}",
            f"what is {topic.one}?",
            f"Explain {topic.one}.",
            f"Explain {topic.about}.",
            f"Tell me about {topic.about}.",
            f"Can you tell me what {topic.one} is?",
            f"Can you explain {topic.one}?",
            f"Can you explain {topic.about} to me?",
            f"What do you know about {topic.about}?",
            f"What does one mean by {topic.one}?",
            f"Please explain {topic.one} in simple words.",
            f"I do not understand {topic.about}. Can you help?",
            f"Tell me what {topic.one} is.",
            f"In a few words, what is {topic.one}?",
            f"I keep hearing about {topic.about}. What is it?",
            f"Describe {topic.one}.",
        ]
    )
    more = random_source.sample(topic.more, random_source.randint(0, len(topic.more)))
    return question, " ".join([random_source.choice(topic.opening), *more])


def with_an_answer_of_its_own(random_source: random.Random) -> tuple[str, str]:
    questions, answer = random_source.choice(ANSWERS)
    return random_source.choice(questions), answer


def small_talk(random_source: random.Random) -> tuple[str, str]:
    questions, answers = random_source.choice(SMALL_TALK)
    return random_source.choice(questions), random_source.choice(answers)


def counting(random_source: random.Random) -> tuple[str, str]:
    first = random_source.choice([1, 1, 1, random_source.randint(2, 60)])
    last = first + random_source.randint(2, 30)
    question = random_source.choice(
        [
            f"Count from {first} to {last}.",
            f"Please count from {first} to {last}.",
            f"Can you count from {first} to {last}?",
        ]
    )
    return question, ", ".join(str(number) for number in range(first, last + 1)) + "."
