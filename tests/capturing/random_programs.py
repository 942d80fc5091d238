"""Random programs on two arrays (3, 3): any sequence of views, writes, reductions and products."""

COMMON = ["add", "transpose", "add_sum", "write_rows", "product", "where", "multiply_out", "turned"]


def run_program(operations, program, xp, x, y):
    """All arrays that a program leaves. A step of it is the number of its operation, and works on the last two arrays."""
    stack = [x.copy(), y.copy()]
    for step in program:
        a, b, op = stack[-1], stack[-2], operations[step]
        if op == "add":
            stack.append(a + b)
        elif op == "transpose":
            stack.append(a.T)
        elif op == "add_sum":
            a += b.sum()
        elif op == "write_rows":
            a[1:] = b[:2]
        elif op == "product":
            stack.append(a @ b)
        elif op == "where":
            stack.append(xp.where(a > b, a, b[::-1]))
        elif op == "multiply_out":
            xp.multiply(a, 0.5, out=b)
        elif op == "turned":
            stack.append(a[::-1, ::-1])
        elif op == "concatenate":
            stack.append(xp.concatenate([a, b])[1:4])
        elif op == "reshape":
            stack.append(a.reshape(-1)[::-1].reshape(3, 3))
        elif op == "sort":
            stack.append(xp.sort(a, axis=0))
        else:
            stack.append(xp.zeros_like(a))
    return [s.copy() for s in stack]
