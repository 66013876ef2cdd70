/* The loop of `tidegate.inbound.multicast.send_to_all`, which says what it does, without a Python object per socket. */
#define Py_LIMITED_API 0x030B0000
#define PY_SSIZE_T_CLEAN
#include <Python.h>

#include <sys/socket.h>

#ifndef MSG_NOSIGNAL
#define MSG_NOSIGNAL 0 /* Python ignores SIGPIPE */
#endif

struct receiver {
    int socket;
    Py_ssize_t taken;
};

/* The descriptors in `list`; NULL with an exception set if one is no int. */
static struct receiver *receivers_in(PyObject *list, Py_ssize_t count) {
    struct receiver *receivers = PyMem_Calloc((size_t)count + 1, sizeof *receivers);
    if (!receivers) return (struct receiver *)PyErr_NoMemory();
    for (Py_ssize_t place = 0; place < count; place++) {
        long socket = PyLong_AsLong(PyList_GetItem(list, place));
        if (socket == -1 && PyErr_Occurred()) {
            PyMem_Free(receivers);
            return NULL;
        }
        receivers[place].socket = (int)socket;
    }
    return receivers;
}

static void send_each(struct receiver *receivers, Py_ssize_t count, const Py_buffer *data) {
    for (struct receiver *receiver = receivers; receiver < receivers + count; receiver++) {
        ssize_t taken = send(receiver->socket, data->buf, (size_t)data->len, MSG_DONTWAIT | MSG_NOSIGNAL);
        receiver->taken = taken < 0 ? 0 : taken;
    }
}

/* A list of (place, taken) of those that did not take all `bytes`. */
static PyObject *left_over(const struct receiver *receivers, Py_ssize_t count, Py_ssize_t bytes) {
    PyObject *left = PyList_New(0);
    for (Py_ssize_t place = 0; left && place < count; place++) {
        if (receivers[place].taken >= bytes) continue;
        PyObject *one = Py_BuildValue("(nn)", place, receivers[place].taken);
        if (!one || PyList_Append(left, one)) Py_CLEAR(left);
        Py_XDECREF(one);
    }
    return left;
}

static PyObject *send_to_all(PyObject *module, PyObject *args) {
    (void)module;
    PyObject *sockets, *list, *left = NULL;
    Py_buffer data;
    if (!PyArg_ParseTuple(args, "Oy*:send_to_all", &sockets, &data)) return NULL;
    if ((list = PySequence_List(sockets))) {
        Py_ssize_t count = PyList_Size(list);
        struct receiver *receivers = receivers_in(list, count);
        if (receivers) {
            Py_BEGIN_ALLOW_THREADS
            send_each(receivers, count, &data);
            Py_END_ALLOW_THREADS
            left = left_over(receivers, count, data.len);
            PyMem_Free(receivers);
        }
        Py_DECREF(list);
    }
    PyBuffer_Release(&data);
    return left;
}

static PyMethodDef functions[] = {
    {"send_to_all", send_to_all, METH_VARARGS, "See tidegate.inbound.multicast."},
    {NULL, NULL, 0, NULL},
};

static PyModuleDef_Slot slots[] = {{0, NULL}};

static PyModuleDef definition = {
    .m_base = PyModuleDef_HEAD_INIT,
    .m_name = "_multicast",
    .m_methods = functions,
    .m_slots = slots,
};

PyMODINIT_FUNC PyInit__multicast(void) { return PyModuleDef_Init(&definition); }
