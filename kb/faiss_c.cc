/* SPDX-License-Identifier: Apache-2.0 */
/*
 * faiss behind its own C API: Debian ships the headers of the API but not its objects, so the
 * functions that vindex.c uses are implemented here, with the headers' names and signatures. Where
 * the system has libfaiss_c, link that and build with KS_HAVE_FAISS_C: then nothing of this
 * remains. C++ exceptions end here.
 */
#ifndef KS_HAVE_FAISS_C

#include <exception>
#include <string>

#include <faiss/Index.h>
#include <faiss/IndexFlat.h>
#include <faiss/IndexIVF.h>
#include <faiss/impl/FaissException.h>
#include <faiss/index_factory.h>
#include <faiss/index_io.h>

#include <faiss/c_api/Index_c.h>
#include <faiss/c_api/IndexFlat_c.h>
#include <faiss/c_api/IndexIVF_c.h>
#include <faiss/c_api/error_c.h>
#include <faiss/c_api/index_factory_c.h>
#include <faiss/c_api/index_io_c.h>

namespace
{

thread_local std::string last_error;

const faiss::Index *index_of(const FaissIndex *p)
{
    return reinterpret_cast<const faiss::Index *>(p);
}

faiss::Index *index_of(FaissIndex *p)
{
    return reinterpret_cast<faiss::Index *>(p);
}

/* Runs `body`; an exception becomes its error code and the message kept for the thread. */
template <typename Body> int guarded(Body body)
{
    try {
        body();
        return OK;
    } catch (const faiss::FaissException &e) {
        last_error = e.what();
        return FAISS_EXCEPT;
    } catch (const std::exception &e) {
        last_error = e.what();
        return STD_EXCEPT;
    } catch (...) {
        last_error = "unknown exception";
        return UNKNOWN_EXCEPT;
    }
}

} // namespace

extern "C" {

const char *faiss_get_last_error()
{
    return last_error.c_str();
}

int faiss_index_factory(FaissIndex **p_index, int d, const char *description,
                        FaissMetricType metric)
{
    return guarded([&] {
        *p_index = reinterpret_cast<FaissIndex *>(
            faiss::index_factory(d, description, static_cast<faiss::MetricType>(metric)));
    });
}

void faiss_Index_free(FaissIndex *obj)
{
    delete index_of(obj);
}

int faiss_Index_d(const FaissIndex *index)
{
    return index_of(index)->d;
}

int faiss_Index_is_trained(const FaissIndex *index)
{
    return index_of(index)->is_trained;
}

int faiss_Index_train(FaissIndex *index, idx_t n, const float *x)
{
    return guarded([&] { index_of(index)->train(n, x); });
}

int faiss_Index_assign(FaissIndex *index, idx_t n, const float *x, idx_t *labels, idx_t k)
{
    return guarded([&] { index_of(index)->assign(n, x, labels, k); });
}

FaissIndexFlat *faiss_IndexFlat_cast(FaissIndex *index)
{
    return reinterpret_cast<FaissIndexFlat *>(dynamic_cast<faiss::IndexFlat *>(index_of(index)));
}

void faiss_IndexFlat_xb(FaissIndexFlat *index, float **p_xb, size_t *p_size)
{
    faiss::IndexFlat *flat = static_cast<faiss::IndexFlat *>(index_of(index));

    *p_xb = flat->get_xb();
    *p_size = flat->codes.size() / sizeof(float);
}

FaissIndexIVF *faiss_IndexIVF_cast(FaissIndex *index)
{
    return reinterpret_cast<FaissIndexIVF *>(dynamic_cast<faiss::IndexIVF *>(index_of(index)));
}

FaissIndex *faiss_IndexIVF_quantizer(const FaissIndexIVF *index)
{
    return reinterpret_cast<FaissIndex *>(
        static_cast<const faiss::IndexIVF *>(index_of(index))->quantizer);
}

size_t faiss_IndexIVF_nlist(const FaissIndexIVF *index)
{
    return static_cast<const faiss::IndexIVF *>(index_of(index))->nlist;
}

int faiss_write_index(const FaissIndex *idx, FILE *f)
{
    return guarded([&] { faiss::write_index(index_of(idx), f); });
}

int faiss_read_index(FILE *f, int io_flags, FaissIndex **p_out)
{
    return guarded(
        [&] { *p_out = reinterpret_cast<FaissIndex *>(faiss::read_index(f, io_flags)); });
}

} /* extern "C" */

#endif /* KS_HAVE_FAISS_C */
