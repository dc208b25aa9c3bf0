"""Reading the binary form of messages: tags, lengths and numbers, as the tables of a schema say.

Between its weights a file has thousands of small fields, for each of which Python takes a microsecond and this a third.
What is rare, unknown or wrong is left to the class in Python that is made of this one.  A file may be made to do harm:
only bytes between the bounds that are handed on are read, and every index is checked all the same.
"""

cimport cython
from cpython.list cimport PyList_Append
from cpython.unicode cimport PyUnicode_DecodeUTF8
from libc.stdint cimport int32_t, int64_t, uint32_t, uint64_t
from libc.string cimport memcpy

cdef enum:
    VARINT = 0
    BYTES = 2


@cython.boundscheck(True)
cdef class Scanner:
    """Reads messages from a buffer.

    Parameters
    ----------
    view : memoryview of bytes
    most : int
        How many values there may be, elements of numpy arrays not counted.
    new : callable
        ``new(type)`` makes an empty message, whose values are in its ``__dict__``.
    repeated : callable
        ``repeated(field)`` makes the empty list of a repeated field.

    Attributes
    ----------
    path : list of (message, field)
        The way to the message that is being read.
    """

    cdef readonly object view
    cdef readonly list path
    cdef const unsigned char[::1] content
    cdef Py_ssize_t count, most
    cdef object new, repeated

    def __init__(self, view, Py_ssize_t most, new, repeated):
        self.view = self.content = view
        self.path = []
        self.most = most
        self.new = new
        self.repeated = repeated

    def fields(self, message, Py_ssize_t at, Py_ssize_t end):
        """Read the fields between `at` and `end` into `message`."""
        self.read(message, message.schema, at, min(end, self.content.shape[0]))

    def varint(self, Py_ssize_t at, Py_ssize_t end):
        """Return the varint at `at` and the place behind it."""
        value = self.number(&at, min(end, self.content.shape[0]))
        return value, at

    cdef int read(self, message, type, Py_ssize_t at, Py_ssize_t end) except -1:
        cdef dict values = message.__dict__, by_tag = type.by_tag, pieces = {}
        cdef Py_ssize_t start, stop
        cdef uint64_t tag, length
        cdef str name, kind
        while at < end:
            start = at
            tag = self.number(&at, end)
            self.counted(start)
            field = by_tag.get(tag)
            if field is None:
                at = self._unknown(message, tag, start, at, end)
                continue
            name = field.name
            kind = field.kind
            if tag & 7 == BYTES:
                length = self.number(&at, end)
                if length > <uint64_t> (end - at):
                    self._too_long(start, name, length, end - at)
                stop = at + <Py_ssize_t> length
                if kind == "message":
                    if field.type.required and self._is_of_a_fork(message, field):
                        self._keep(message, tag, at, stop)
                    else:
                        self.submessage(message, values, field, at, stop)
                elif kind == "string":
                    self.store(values, field, name, self.text(at, stop))
                elif kind == "bytes":
                    self.store(values, field, name, bytes(self.view[at:stop]))
                elif field.array:
                    self.join(values, name, self._array(field, at, stop), pieces)
                else:
                    while at < stop:
                        self.counted(at)
                        self.scalar(message, values, field, name, kind, &at, stop)
                at = stop
            elif field.array:
                array, at = self._elements(field, start, at, end)
                self.join(values, name, array, pieces)
            else:
                self.scalar(message, values, field, name, kind, &at, end)
        if pieces or type.required:
            self._complete(message, pieces, end)
        return 0

    cdef int submessage(self, message, dict values, field, Py_ssize_t at, Py_ssize_t stop) except -1:
        # a second occurrence of one that is not repeated is merged into the first, as protocol buffers have it
        cdef str name = field.name
        child = None if field.repeated else values.get(name)
        if child is None:
            child = self.new(field.type)
            self.store(values, field, name, child)
        self.path.append((message, field))
        self.read(child, field.type, at, stop)
        self.path.pop()
        return 0

    cdef int scalar(
        self, message, dict values, field, str name, str kind, Py_ssize_t* at, Py_ssize_t end
    ) except -1:
        """Read one number of `field`."""
        cdef Py_ssize_t start = at[0]
        cdef uint64_t bits
        cdef uint32_t half
        cdef float single
        cdef double double_
        if kind == "float":
            half = <uint32_t> self.fixed(name, at, 4, end)
            memcpy(&single, &half, 4)
            value = <double> single
        elif kind == "double":
            bits = self.fixed(name, at, 8, end)
            memcpy(&double_, &bits, 8)
            value = double_
        else:
            bits = self.number(at, end)
            if kind == "bool":
                value = bits != 0
            elif kind == "uint32":
                value = <uint32_t> bits
            elif kind == "uint64":
                value = bits
            elif kind == "int64":
                value = <int64_t> bits
            else:
                value = <int32_t> bits
                if kind == "enum":
                    value = field.type.by_number.get(value)
                    if value is None:
                        self._keep(message, field.number << 3 | VARINT, start, at[0])
                        return 0
        return self.store(values, field, name, value)

    cdef str text(self, Py_ssize_t at, Py_ssize_t stop):
        if at == stop:
            return ""
        return PyUnicode_DecodeUTF8(<const char*> &self.content[at], stop - at, "surrogateescape")

    cdef int store(self, dict values, field, str name, value) except -1:
        """Set the value of a field, or append it to those of a repeated one."""
        if not field.repeated:
            values[name] = value
            return 0
        elements = values.get(name)
        if elements is None:
            elements = values[name] = self.repeated(field)
        return PyList_Append(elements, value)

    cdef int join(self, dict values, str name, array, dict pieces) except -1:
        """Set the array of a field; where there is one already, gather both, and what follows, in `pieces`."""
        earlier = values.get(name)
        if earlier is None:
            values[name] = array
        elif name in pieces:
            pieces[name].append(array)
        else:
            pieces[name] = [earlier, array]
        return 0

    cdef int counted(self, Py_ssize_t at) except -1:
        self.count += 1
        if self.count > self.most:
            self._error(at, f"more than {self.most} values in one file")
        return 0

    cdef uint64_t number(self, Py_ssize_t* at, Py_ssize_t end) except? 1:
        """Read a varint."""
        cdef Py_ssize_t start = at[0]
        cdef uint64_t value = 0
        cdef unsigned char byte
        cdef int shift
        for shift in range(0, 70, 7):
            if at[0] >= end:
                self._error(start, "the file or the message ends within a number")
            byte = self.content[at[0]]
            at[0] += 1
            value |= <uint64_t> (byte & 0x7F) << shift
            if byte < 0x80:
                return value
        self._error(start, "a number of more than ten bytes")

    cdef uint64_t fixed(self, str name, Py_ssize_t* at, int size, Py_ssize_t end) except? 1:
        """Read a number of `size` bytes, the least first."""
        cdef uint64_t value = 0
        cdef int i
        if size > end - at[0]:
            self._error(at[0], f"{name}: the file or the message ends within a number")
        for i in range(size):
            value |= <uint64_t> self.content[at[0] + i] << (8 * i)
        at[0] += size
        return value
